"""The tables of the specification, each row with what was seen of it from outside the VM."""

import textwrap

SEEN_COLUMNS = 78

# table -> [(row, what the specification says)]
TABLES = {
    "access, direct": [
        ("Consumer WireGuard", "allowed"),
        ("Internet", "blocked by VM iptables (bypassable)"),
        ("Provider LAN", "blocked by VM iptables (bypassable)"),
        ("Provider localhost", "no: NAT isolation"),
    ],
    "access, filtered": [
        ("Consumer WireGuard", "allowed"),
        ("Consumer other ports", "dropped"),
        ("Internet", "dropped"),
        ("Provider LAN", "dropped"),
        ("Provider host", "dropped"),
        ("Other VMs", "dropped"),
    ],
    "attacks, filtered": [
        ("VM disables iptables", "still blocked"),
        ("VM spoofs source IP", "still blocked"),
        ("VM sends to random IP", "dropped"),
        ("VM scans provider LAN", "all dropped"),
        ("VM tries DNS lookup", "dropped"),
        ("Malicious inbound traffic", "only from the consumer"),
    ],
    "attacks, direct": [
        ("VM disables iptables", "can reach the internet"),
        ("VM spoofs source IP", "may leak"),
        ("VM sends to random IP", "reaches the internet"),
        ("VM scans provider LAN", "possible (NAT may limit)"),
        ("VM tries DNS lookup", "succeeds if iptables bypassed"),
        ("Malicious inbound traffic", "blocked by NAT"),
    ],
    "guarantees, direct": [
        ("Provider IP hidden", "yes"),
        ("Provider bandwidth protected", "yes"),
        ("Provider LAN isolated", "VM-enforced"),
        ("Internet access blocked", "VM-enforced"),
        ("Bypass-resistant", "no: root can bypass"),
    ],
    "guarantees, filtered": [
        ("Provider IP hidden", "yes"),
        ("Provider bandwidth protected", "yes"),
        ("Provider LAN isolated", "provider-enforced"),
        ("Internet access blocked", "provider-enforced"),
        ("Bypass-resistant", "yes: cannot bypass"),
    ],
    "boot isolation": [
        ("Pre-built image", "full isolation"),
        ("Offline packages", "full isolation"),
        ("Online install", "network exposed; development only"),
    ],
}


class Sightings:
    """What was seen: (table, row, mode) -> a sentence."""

    def __init__(self):
        self._seen = {}

    def note(self, table, row, mode, sentence):
        """Fill a cell. Raise: KeyError for a row that the specification does not have"""
        if row not in dict(TABLES[table]):
            raise KeyError(f"{table}: no row {row}")
        self._seen[table, row, mode] = sentence

    def empty(self):
        """Rows of which nothing was seen."""
        filled = {(table, row) for (table, row, _), sentence in self._seen.items() if sentence}
        return [f"{table}: {row}" for table, rows in TABLES.items() for row, _ in rows if (table, row) not in filled]

    def __bool__(self):
        return bool(self._seen)

    def print(self):
        """The tables, one line for each mode of a row."""
        for table, rows in TABLES.items():
            print(f"\n{table}\n  {'row':29} {'specification':36} {'mode':10} seen")
            for row, says in rows:
                cells = [(mode, sentence) for (t, r, mode), sentence in self._seen.items() if (t, r) == (table, row)]
                for mode, sentence in cells or [("", "")]:
                    first, *rest = textwrap.wrap(sentence, SEEN_COLUMNS) or [""]
                    print(f"  {row:29} {says:36} {mode:10} {first}")
                    for line in rest:
                        print(f"  {'':29} {'':36} {'':10} {line}")
        print(flush=True)


SEEN = Sightings()  # what the tests of this process have seen
OPEN = {"capacity": {"leases": 8}, "network": {"allowModeOverride": True}}  # configuration of their daemons
