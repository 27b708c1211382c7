"""Which function runs which case: by the JSON's ``network``, else by the beginning of the name."""

from parity import dic, jasrnet, progressive, sparnet

SYSTEMS = {"sparnet": sparnet, "progressive": progressive, "jasrnet": jasrnet, "dic": dic}


def find_adapter(case):
    """Return the function that runs a case.

    Raises:
        ValueError: If no family of the case's system fits it.
    """
    if case.system not in SYSTEMS:
        raise ValueError(
            f"{case.name} belongs to system {case.system!r}, which has no adapters. Known: {', '.join(SYSTEMS)}"
        )
    families = SYSTEMS[case.system]
    by_network = families.FAMILIES_BY_NETWORK.get(case.meta.get("network"))
    prefixes = [prefix for prefix in families.FAMILIES_BY_PREFIX if case.name.startswith(prefix)]
    if by_network is None and not prefixes:
        raise ValueError(f"no family of {case.system} fits {case.name} (network {case.meta.get('network')!r})")
    return by_network or families.FAMILIES_BY_PREFIX[max(prefixes, key=len)]
