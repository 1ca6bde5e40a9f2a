"""Who a store is: an id that it was given once, by whichever service started first."""

import secrets

from shared.contracts.records import StoreIdentity
from shared.store.artifacts.store import ArtifactStore, create_model, read_model

KEY = "identity.json"


def identity_of(store: ArtifactStore) -> str:
    """The store's id, the same for every process and host that shares the store; made when there is none yet."""
    if not store.exists(KEY):
        create_model(store, KEY, StoreIdentity(id=secrets.token_hex(8)))
    return read_model(store, KEY, StoreIdentity).id


def namespace_of(store: ArtifactStore, chosen: str | None) -> str:
    """What the keys of this system begin with in Redis: what was chosen, else a name after the store.

    Services that share a store share its work, and no others: their keys are the same wherever Redis is.
    """
    return chosen or f"inpo-{identity_of(store)}"
