"""What every store must do, whatever it is made of: one class for each port; a test file derives from it.

A deriving class overrides the `store` fixture.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from nomad.ports import (
    CallStore,
    Cdr,
    CdrQuery,
    CdrStore,
    Conflict,
    LocationStore,
    NonceWindow,
    PolicyStore,
    Registration,
    Spool,
    SpoolState,
    UsageQuery,
    UserUsage,
)
from tests.stores.samples import binding, cdr, live, policy_version, record, registration

ODD_TEXTS = ("café ☎", "bytes \udcff\udc80 that are no UTF-8", "NUL \x00 inside", "'; DROP TABLE cdrs; --", "")


class LocationContract:
    @pytest.fixture
    def store(self) -> LocationStore:
        raise NotImplementedError

    async def test_nobody_is_there_at_first(self, store: LocationStore) -> None:
        assert await store.get("alice") == Registration("alice")
        assert await store.find("1001") == ""
        assert [each async for each in store.browse()] == []

    async def test_what_was_saved_is_read_back_with_a_higher_version(self, store: LocationStore) -> None:
        await store.save(registration())
        stored = await store.get("alice")
        assert stored.version > 0
        assert replace(stored, version=0) == registration()
        assert [each async for each in store.browse()] == [stored]

    async def test_an_outdated_version_is_refused(self, store: LocationStore) -> None:
        await store.save(registration())
        stored = await store.get("alice")
        await store.save(stored)
        with pytest.raises(Conflict):
            await store.save(stored)
        with pytest.raises(Conflict):
            await store.save(registration())

    async def test_a_version_of_a_removed_registration_is_refused(self, store: LocationStore) -> None:
        await store.save(registration())
        first = await store.get("alice")
        await store.save(replace(first, bindings=()))
        await store.save(registration())
        with pytest.raises(Conflict):
            await store.save(first)

    async def test_no_bindings_means_no_registration(self, store: LocationStore) -> None:
        await store.save(registration())
        await store.save(replace(await store.get("alice"), bindings=()))
        assert await store.get("alice") == Registration("alice")
        assert await store.find("1001") == ""
        await store.save(registration())

    async def test_found_by_extension_and_by_address_in_any_case(self, store: LocationStore) -> None:
        await store.save(registration())
        assert await store.find("1001") == "alice"
        assert await store.find("Alice@INRIA.example") == "alice"
        assert await store.find("bob@inria.example") == ""

    async def test_a_changed_extension_is_found_and_the_old_one_is_not(self, store: LocationStore) -> None:
        await store.save(registration())
        await store.save(replace(await store.get("alice"), extension="2002", addresses=("a.b@inria.example",)))
        assert await store.find("2002") == await store.find("a.b@inria.example") == "alice"
        assert await store.find("1001") == await store.find("alice@inria.example") == ""

    async def test_an_address_of_two_people_stays_with_the_first(self, store: LocationStore) -> None:
        await store.save(registration("alice"))
        await store.save(registration("bob"))
        await store.save(registration("carol"))
        assert await store.find("1001") == "alice"
        await store.save(replace(await store.get("alice"), bindings=()))
        assert await store.find("1001") == "bob"

    async def test_expired_bindings_go_and_are_named(self, store: LocationStore) -> None:
        early, late = binding(1, expires_at=100.0), binding(2, expires_at=200.0)
        await store.save(replace(registration("alice"), bindings=(early, late)))
        await store.save(replace(registration("bob"), bindings=(late,)))
        assert list(await store.expire(100.0)) == []
        before = (await store.get("alice")).version
        assert list(await store.expire(150.0)) == [("alice", early)]
        assert (await store.get("alice")).bindings == (late,)
        assert (await store.get("alice")).version > before
        assert sorted(user for user, _ in await store.expire(250.0)) == ["alice", "bob"]
        assert await store.get("alice") == Registration("alice")
        assert list(await store.expire(9999.0)) == []

    async def test_a_refreshed_binding_expires_later(self, store: LocationStore) -> None:
        await store.save(registration(expires_at=100.0))
        await store.save(replace(await store.get("alice"), bindings=(binding(expires_at=300.0),)))
        assert list(await store.expire(200.0)) == []
        await store.save(replace(await store.get("alice"), bindings=(binding(expires_at=250.0),)))
        assert [user for user, _ in await store.expire(260.0)] == ["alice"]


class NonceContract:
    @pytest.fixture
    def store(self) -> NonceWindow:
        raise NotImplementedError

    async def test_each_count_of_a_nonce_is_accepted_once(self, store: NonceWindow) -> None:
        for count in (1, 2, 4, 3, 200, 100):
            assert await store.accept("n", count, 2000.0)
            assert not await store.accept("n", count, 2000.0)

    async def test_nonces_do_not_disturb_each_other(self, store: NonceWindow) -> None:
        assert await store.accept("a", 1, 2000.0)
        assert await store.accept("b", 1, 2000.0)

    async def test_a_huge_count_costs_nothing_and_is_not_replayed(self, store: NonceWindow) -> None:
        assert await store.accept("n", 1, 2000.0)
        assert await store.accept("n", 0xFFFFFFFF, 2000.0)
        assert not await store.accept("n", 0xFFFFFFFF, 2000.0)
        assert not await store.accept("n", 1, 2000.0)


class CdrContract:
    @pytest.fixture
    def store(self) -> CdrStore:
        raise NotImplementedError

    async def test_what_was_added_is_read_back(self, store: CdrStore) -> None:
        refused = replace(cdr(2), answered_at=None, duration_s=0.0, result="refused", status=403, rule="class")
        await store.add([cdr(1), refused])
        assert list(await store.query(CdrQuery())) == [refused, cdr(1)]

    async def test_the_same_id_is_added_once(self, store: CdrStore) -> None:
        await store.add([cdr(1), cdr(1)])
        await store.add([replace(cdr(1), result="failed")])
        assert list(await store.query(CdrQuery())) == [cdr(1)]

    async def test_nothing_to_add_is_fine(self, store: CdrStore) -> None:
        await store.add([])
        assert list(await store.query(CdrQuery())) == []

    async def test_queries_narrow_by_user_period_and_number(self, store: CdrStore) -> None:
        await store.add([cdr(n, user="alice" if n % 2 else "bob") for n in range(10)])

        async def ids(query: CdrQuery) -> list[str]:
            return [each.id for each in await store.query(query)]

        assert await ids(CdrQuery(user="bob", limit=2)) == ["call-8", "call-6"]
        assert await ids(CdrQuery(since=1007.0)) == ["call-9", "call-8", "call-7"]
        assert await ids(CdrQuery(since=1001.0, until=1003.0)) == ["call-2", "call-1"]
        assert await ids(CdrQuery(user="carol")) == []
        assert await ids(CdrQuery(limit=0)) == []

    async def test_what_the_policy_knew_is_kept(self, store: CdrStore) -> None:
        judged = replace(
            cdr(1), number="+33123456789", group="staff", groups=("cn=a,dc=x", "café"), classes=(b"\x00\xff", b"gold"),
            transport="tls", policy="7", cost=0.25, chain="number 1; class x",
        )  # fmt: skip
        await store.add([judged])
        assert list(await store.query(CdrQuery())) == [judged]

    async def test_usage_is_added_up_by_user_for_month_and_day(self, store: CdrStore) -> None:
        query = UsageQuery(month=1000.0, day=2000.0, hour=2500.0, until=9000.0, exempt=("emergency",))

        def call(number: int, answered: float, ended: float, *, user: str = "alice", **more: object) -> None:
            made = cdr(number, user=user, started_at=answered - 5)
            known = {"answered_at": answered, "ended_at": ended, "duration_s": ended - answered, "cost": 3.0, **more}
            records.append(replace(made, **known))  # type: ignore[arg-type]

        records: list[Cdr] = []
        call(1, 900.0, 1100.0)  # over the beginning of the month: 100 s
        call(2, 1500.0, 1600.0)  # before the day: 100 s
        call(3, 1900.0, 2300.0)  # over midnight: 400 s of the month, 300 s and three quarters of the cost of the day
        call(4, 3000.0, 3010.0, user="bob")
        call(5, 3000.0, 3100.0, number_class="emergency")
        call(6, 3000.0, 3100.0, direction="in")
        call(7, 800.0, 990.0)  # last month
        call(8, 9000.0, 9100.0)  # later
        records.append(
            replace(cdr(9, started_at=2600.0), answered_at=None, duration_s=0.0, result="busy", ended_at=2610)
        )
        records.append(replace(cdr(10, started_at=2600.0), answered_at=None, duration_s=0.0, result="refused"))
        await store.add(records)
        found = {each.user: each for each in await store.usage(query)}
        assert found == {
            "alice": UserUsage("alice", 600.0, 300.0, 2.25, (2600.0,)),
            "bob": UserUsage("bob", 10.0, 10.0, 3.0, (2995.0,)),
        }

    async def test_who_only_tried_is_in_the_usage_too(self, store: CdrStore) -> None:
        tried = replace(cdr(1), answered_at=None, duration_s=0.0, result="busy", started_at=3000.0, ended_at=3001.0)
        await store.add([tried])
        query = UsageQuery(month=1000.0, day=2000.0, hour=2500.0, until=9000.0)
        assert list(await store.usage(query)) == [UserUsage("alice", 0.0, 0.0, 0.0, (3000.0,))]

    async def test_many_callers_at_once(self, store: CdrStore) -> None:
        await asyncio.gather(*(store.add([cdr(n)]) for n in range(300)))
        assert len(await store.query(CdrQuery())) == 300

    @pytest.mark.parametrize("text", ODD_TEXTS)
    async def test_any_text_is_stored_and_harms_nothing(self, store: CdrStore, text: str) -> None:
        await store.add([replace(cdr(1), user=text or "x", callee=text, user_agent=text)])
        (found,) = await store.query(CdrQuery(user=text or "x"))
        assert found.callee == found.user_agent
        if text.isprintable():
            assert found.callee == text


class PolicyContract:
    @pytest.fixture
    def store(self) -> PolicyStore:
        raise NotImplementedError

    async def test_nothing_is_there_at_first(self, store: PolicyStore) -> None:
        assert await store.get(1) is None
        assert await store.find("0" * 64) is None
        assert list(await store.history(10)) == []

    async def test_versions_are_read_back_by_number_and_text_newest_first(self, store: PolicyStore) -> None:
        first, second = policy_version(1), policy_version(2, text="b")
        third = policy_version(3, restores=1, failed_tests=2)  # the text of the first again
        await store.add([first])
        await store.add([second, third])
        assert await store.get(2) == second
        assert await store.get(4) is None
        assert await store.find(first.sha) == third
        assert list(await store.history(2)) == [third, second]

    async def test_a_number_is_given_once_and_without_gaps(self, store: PolicyStore) -> None:
        await store.add([policy_version(1)])
        for wrong in (1, 3):
            with pytest.raises(Conflict):
                await store.add([policy_version(wrong, text="late")])
        with pytest.raises(Conflict):
            await store.add([policy_version(2), policy_version(2)])  # all or nothing
        assert list(await store.history(10)) == [policy_version(1)]
        with pytest.raises(Conflict):
            await store.add([policy_version(5)])

    async def test_of_many_at_once_one_gets_the_number(self, store: PolicyStore) -> None:
        adding = (store.add([policy_version(1, text=str(n))]) for n in range(20))
        outcomes = await asyncio.gather(*adding, return_exceptions=True)
        assert [type(each) for each in outcomes if each is not None] == [Conflict] * 19
        assert len(await store.history(30)) == 1

    async def test_only_the_newest_is_withdrawn(self, store: PolicyStore) -> None:
        await store.add([policy_version(1), policy_version(2)])
        with pytest.raises(Conflict):
            await store.withdraw(1)
        await store.withdraw(2)
        assert list(await store.history(10)) == [policy_version(1)]
        await store.add([policy_version(2, text="again")])

    async def test_any_text_comes_back(self, store: PolicyStore) -> None:
        odd = policy_version(1, text="# café ☎ '; DROP TABLE policies; --\n\t[classes]\r\n")
        await store.add([odd])
        assert await store.get(1) == odd


class CallContract:
    @pytest.fixture
    def store(self) -> CallStore:
        raise NotImplementedError

    async def test_put_replace_remove(self, store: CallStore) -> None:
        await store.put(live(1))
        await store.put(live(2))
        await store.put(live(1, data=b"newer"))
        assert sorted(await store.load(), key=lambda call: call.id) == [live(1, data=b"newer"), live(2)]
        await store.remove("call-1")
        await store.remove("call-1")
        assert list(await store.load()) == [live(2)]

    async def test_the_last_of_many_puts_wins(self, store: CallStore) -> None:
        await asyncio.gather(*(store.put(live(1, data=bytes([n]))) for n in range(100)))
        assert list(await store.load()) == [live(1, data=bytes([99]))]

    async def test_put_then_remove_at_once_leaves_nothing(self, store: CallStore) -> None:
        await asyncio.gather(store.put(live(1)), store.remove("call-1"), store.put(live(2)))
        assert list(await store.load()) == [live(2)]


class SpoolContract:
    @pytest.fixture
    def store(self) -> Spool:
        raise NotImplementedError

    async def test_records_come_back_whole_and_in_order(self, store: Spool) -> None:
        records = [record(n) for n in range(5)]
        await store.append(records[:2])
        await asyncio.gather(*(store.append([each]) for each in records[2:]))
        found = await store.waiting(10)
        assert [each.record for each in found] == records
        assert [each.position for each in found] == sorted(each.position for each in found)
        assert {each.attempts for each in found} == {0}

    async def test_pages(self, store: Spool) -> None:
        await store.append([record(n) for n in range(5)])
        first = await store.waiting(2)
        rest = await store.waiting(10, after=first[-1].position)
        assert [each.record.id for each in (*first, *rest)] == [record(n).id for n in range(5)]

    async def test_delivered_records_are_gone_and_positions_are_not_reused(self, store: Spool) -> None:
        await store.append([record(1), record(2)])
        last = (await store.waiting(10))[-1].position
        await store.delivered([each.position for each in await store.waiting(10)])
        await store.delivered([last])
        assert list(await store.waiting(10)) == []
        await store.append([record(3)])
        assert (await store.waiting(10))[0].position > last

    async def test_attempts_are_counted(self, store: Spool) -> None:
        await store.append([record(1), record(2)])
        position = (await store.waiting(1))[0].position
        await store.failed([position])
        await store.failed([each.position for each in await store.waiting(10)])
        assert [each.attempts for each in await store.waiting(10)] == [2, 1]

    async def test_a_record_that_is_set_aside_waits_no_more(self, store: Spool) -> None:
        await store.append([record(1), record(2)])
        await store.failed([(await store.waiting(1))[0].position], final="too long")
        assert [each.record for each in await store.waiting(10)] == [record(2)]
        assert store.state() == SpoolState(1, 1002.0, undeliverable=1)

    async def test_state_follows(self, store: Spool) -> None:
        assert (store.state().records, store.state().oldest_at) == (0, None)
        await store.append([record(3), record(5)])
        assert (store.state().records, store.state().oldest_at) == (2, 1003.0)
        first, _ = await store.waiting(10)
        await store.delivered([first.position])
        assert (store.state().records, store.state().oldest_at) == (1, 1005.0)
        await store.append([record(6)])
        assert (store.state().records, store.state().oldest_at) == (2, 1005.0)
        await store.delivered([each.position for each in await store.waiting(10)])
        assert (store.state().records, store.state().oldest_at) == (0, None)

    @pytest.mark.parametrize("text", ODD_TEXTS)
    async def test_any_text_comes_back_as_it_went_in(self, store: Spool, text: str) -> None:
        odd = replace(
            record(1), user=text, attributes=(("User-Name", text), ("Class", text.encode("utf-8", "replace")))
        )
        await store.append([odd])
        assert (await store.waiting(1))[0].record == odd
