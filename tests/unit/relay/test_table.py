"""A table answers for its rows, and for nothing else."""

import pytest

from lbproxy.relay.table import Table


def test_what_is_not_in_the_table_is_a_bug() -> None:
    """A machine that went on from there would be in no state that anybody has thought of."""
    table = Table({0x00: 3, 0x21: 0, 0xFF: 15})
    assert {key: table[key] for key in table.rows} == table.rows
    for key in set(range(0x100)) - set(table.rows):
        with pytest.raises(KeyError):
            table[key]
