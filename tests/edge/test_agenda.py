from __future__ import annotations

from nomad.edge.agenda import SPARE_ENTRIES, Agenda


def test_what_is_due_comes_up_once_and_in_order() -> None:
    agenda = Agenda()
    for name, at in (("b", 2.0), ("a", 1.0), ("c", 3.0)):
        agenda.note(name, at)
    assert list(agenda.take(0.9)) == []
    assert list(agenda.take(2.0)) == ["a", "b"]
    assert list(agenda.take(2.0)) == []
    assert len(agenda) == 1


def test_the_earliest_time_counts() -> None:
    agenda = Agenda()
    agenda.note("a", 5.0)
    agenda.note("a", 9.0)
    agenda.note("a", 2.0)
    assert list(agenda.take(2.0)) == ["a"]
    assert list(agenda.take(100.0)) == []
    agenda.note("a", 9.0)
    assert list(agenda.take(100.0)) == ["a"]


def test_what_is_noted_while_others_are_taken_comes_up_later() -> None:
    agenda = Agenda()
    agenda.note("a", 1.0)
    agenda.note("b", 2.0)
    seen = []
    for name in agenda.take(2.0):
        seen.append(name)
        if name == "a":
            agenda.note("a", 3.0)
    assert seen == ["a", "b"]
    assert list(agenda.take(3.0)) == ["a"]


def test_what_is_dropped_does_not_come_up() -> None:
    agenda = Agenda()
    agenda.note("a", 1.0)
    agenda.drop("a")
    agenda.drop("never there")
    assert list(agenda.take(1.0)) == []
    agenda.note("a", 7.0)
    assert list(agenda.take(6.0)) == []
    assert list(agenda.take(7.0)) == ["a"]


def test_a_clock_that_is_set_moves_everything() -> None:
    agenda = Agenda()
    agenda.note("a", 1.0)
    agenda.note("b", 0.5)
    agenda.drop("b")
    agenda.move(10.0)
    assert list(agenda.take(10.9)) == []
    assert list(agenda.take(11.0)) == ["a"]


def test_what_comes_and_goes_leaves_nothing_behind() -> None:
    agenda = Agenda()
    for number in range(5 * SPARE_ENTRIES):
        agenda.note(str(number), 1.0)
        agenda.drop(str(number))
    assert len(agenda._entries) <= SPARE_ENTRIES + 2
    assert len(agenda) == 0
