"""`python -m services.policy`: workers of kind `generate`, over one engine."""

from services.policy.building import build_handler, run_loops
from services.policy.settings import PolicySettings
from shared.runtime.shutdown import stop_on_signals
from shared.runtime.telemetry import configure_logging
from shared.runtime.threads import wait_passively
from shared.store.artifacts import DirectoryStore


def main() -> None:
    """Run until told to stop."""
    wait_passively()
    settings = PolicySettings()
    configure_logging("policy", settings.log_level)
    stop = stop_on_signals()
    store = DirectoryStore(settings.store_dir)
    run_loops(settings, store, build_handler(settings, store), stop)


if __name__ == "__main__":
    main()
