"""How a service's compute threads wait for one another."""

import os


def wait_passively() -> None:
    """Let OpenMP threads sleep instead of spin; has an effect only before torch is first imported.

    Several services share the cores of one machine. With the default, spinning, a model of a quarter of a million
    parameters generated 25 times slower while another process was busy. A value set from outside is kept.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
