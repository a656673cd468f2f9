from __future__ import annotations

import pytest

from nomad.sip.events import ClientKey
from nomad.sip.forking import Action, CancelBranch, Forward, ResponseContext
from nomad.sip.message import Response
from tests.harness.sip import make_request, make_response


def key(number: int, method: str = "INVITE") -> ClientKey:
    return ClientKey(f"z9hG4bK-b{number}", method)


def forked(count: int, method: str = "INVITE", *, now: float = 0.0) -> ResponseContext:
    context = ResponseContext(make_request(method))
    for number in range(count):
        context.add_branch(key(number, method), now)
    return context


def answer(context: ResponseContext, number: int, status: int, *, now: float = 1.0, **headers: str) -> list[Action]:
    request = context._request
    response = make_response(
        request, status, headers=[(name.replace("_", "-"), value) for name, value in headers.items()]
    )
    return context.on_response(key(number, request.method), response, now)


def words(actions: list[Action]) -> str:
    return " ".join(
        f"cancel:{action.key.branch[-1]}"
        if isinstance(action, CancelBranch)
        else f"{action.response.status}:{'-' if action.key is None else action.key.branch[-1]}"
        for action in actions
    )


def forwarded(actions: list[Action]) -> Response:
    (action,) = actions
    assert isinstance(action, Forward)
    return action.response


def test_without_branches_nothing_is_awaited_and_nothing_sent() -> None:
    context = forked(0)
    assert context.done
    assert context.next_timer() is None
    assert context.cancel_all() == []
    assert context.run_timers(1e9) == []


def test_responses_of_unknown_branches_are_ignored() -> None:
    context = forked(1)
    assert answer(context, 5, 200) == []
    assert context.on_timeout(key(5)) == []
    assert context.on_failed(key(5)) == []
    assert not context.done


def test_provisionals_go_back_at_once_except_100() -> None:
    context = forked(2)
    assert answer(context, 0, 100) == []
    assert words(answer(context, 0, 180)) == "180:0"
    assert words(answer(context, 1, 183)) == "183:1"
    assert words(answer(context, 0, 180)) == "180:0"


def test_other_methods_have_no_provisionals() -> None:
    assert answer(forked(1, "OPTIONS"), 0, 183) == []


def test_provisionals_after_the_final_are_dropped() -> None:
    context = forked(2)
    answer(context, 0, 486)
    assert answer(context, 0, 180) == []
    answer(context, 1, 486)
    assert answer(context, 1, 180) == []
    context = forked(2)
    answer(context, 0, 200)
    assert answer(context, 1, 180) == []


def test_the_first_2xx_goes_back_and_cancels_the_others() -> None:
    context = forked(3)
    assert answer(context, 0, 486) == []
    assert words(answer(context, 1, 200)) == "200:1 cancel:2"
    assert not context.done
    assert answer(context, 2, 487) == []
    assert context.done


def test_every_2xx_to_an_invite_goes_back_and_each_branch_is_cancelled_once() -> None:
    context = forked(3)
    assert words(answer(context, 0, 200)) == "200:0 cancel:1 cancel:2"
    assert words(answer(context, 0, 200)) == "200:0"
    assert words(answer(context, 1, 200)) == "200:1"
    assert context.cancel_all() == []


def test_only_one_2xx_to_another_method_goes_back() -> None:
    context = forked(2, "OPTIONS")
    assert words(answer(context, 0, 200)) == "200:0"
    assert answer(context, 1, 200) == []
    assert answer(context, 0, 200) == []
    assert context.done


def test_a_final_counts_once() -> None:
    context = forked(2)
    assert answer(context, 0, 486) == []
    assert answer(context, 0, 404) == []
    assert not context.done
    assert words(answer(context, 1, 600)) == "600:1"


def test_a_6xx_cancels_the_others_and_waits_for_them() -> None:
    context = forked(3)
    assert words(answer(context, 0, 603)) == "cancel:1 cancel:2"
    assert answer(context, 1, 487) == []
    assert words(answer(context, 2, 487)) == "603:0"


def test_a_2xx_after_a_6xx_wins() -> None:
    context = forked(2)
    assert words(answer(context, 0, 603)) == "cancel:1"
    assert words(answer(context, 1, 200)) == "200:1"
    assert context.done


@pytest.mark.parametrize(
    ("statuses", "best"),
    [
        ((486, 603), 603),
        ((603, 302), 603),
        ((606, 600), 606),  # the earlier of two equals
        ((486, 302), 302),
        ((404, 301), 301),
        ((500, 404), 404),
        ((486, 480), 486),
        ((480, 486), 480),
        ((404, 401), 401),
        ((404, 407), 407),
        ((404, 415), 415),
        ((404, 420), 420),
        ((404, 484), 484),
        ((408, 404), 404),
        ((487, 486), 486),
        ((408, 487), 408),
        ((487, 500), 487),
        ((503, 500), 500),
        ((503, 501), 501),
        ((503, 404), 404),
        ((503, 503), 500),
        ((503,), 500),
        ((599, 699), 699),
    ],
)
def test_the_best_response_goes_back(statuses: tuple[int, ...], best: int) -> None:
    context = forked(len(statuses))
    actions: list[Action] = []
    for number, status in enumerate(statuses):
        assert not [action for action in actions if isinstance(action, Forward)]
        actions = answer(context, number, status)
    assert forwarded(actions).status == best
    assert context.done


def test_a_503_becomes_500_with_its_phrase_and_keeps_its_branch() -> None:
    context = forked(1)
    (action,) = answer(context, 0, 503, Retry_After="30")
    assert isinstance(action, Forward)
    assert (action.response.status, action.response.reason) == (500, "Server Internal Error")
    assert action.key == key(0)
    assert action.response.get("retry-after") == "30"


def test_all_challenges_go_back_together() -> None:
    context = forked(4)
    answer(context, 0, 407, Proxy_Authenticate='Digest realm="a"')
    answer(context, 1, 401, WWW_Authenticate='Digest realm="b"')
    answer(context, 2, 403, WWW_Authenticate='Digest realm="x"')
    response = forwarded(answer(context, 3, 407, Proxy_Authenticate='Digest realm="c"'))
    assert response.status == 407
    assert response.get_all("proxy-authenticate") == ['Digest realm="a"', 'Digest realm="c"']
    assert response.get_all("www-authenticate") == ['Digest realm="b"']


def test_the_responses_of_the_branches_are_not_changed() -> None:
    context = forked(2)
    one = make_response(context._request, 401, headers=[("WWW-Authenticate", 'Digest realm="a"')])
    before = one.encode()
    context.on_response(key(0), one, 1.0)
    answer(context, 1, 401, WWW_Authenticate='Digest realm="b"')
    assert one.encode() == before


def test_a_branch_that_times_out_counts_as_408() -> None:
    context = forked(1)
    (action,) = context.on_timeout(key(0))
    assert isinstance(action, Forward)
    assert (action.response.status, action.key) == (408, None)
    assert action.response.to.tag
    assert action.response.call_id == context._request.call_id
    assert context.on_timeout(key(0)) == []


def test_a_branch_that_cannot_be_sent_counts_as_503() -> None:
    context = forked(2)
    assert context.on_failed(key(0)) == []
    assert words(answer(context, 1, 486)) == "486:1"
    context = forked(1)
    assert words(context.on_failed(key(0))) == "500:-"


def test_a_2xx_of_a_branch_given_up_still_goes_back() -> None:
    context = forked(2)
    assert context.on_timeout(key(0)) == []
    assert words(answer(context, 0, 200)) == "200:0 cancel:1"


def test_a_non_invite_is_never_answered_408() -> None:
    context = forked(1, "OPTIONS")
    assert context.on_timeout(key(0, "OPTIONS")) == []
    assert context.done
    context = forked(2, "OPTIONS")
    assert context.on_timeout(key(0, "OPTIONS")) == []
    assert words(answer(context, 1, 500)) == "500:1"
    assert answer(forked(1, "OPTIONS"), 0, 408) == []


def test_the_caller_s_cancel_cancels_each_branch_once_and_brings_487() -> None:
    context = forked(3)
    answer(context, 0, 480)
    assert words(context.cancel_all()) == "cancel:1 cancel:2"
    assert context.cancel_all() == []
    assert answer(context, 1, 487) == []
    assert words(answer(context, 2, 404)) == "487:1"


def test_a_2xx_that_crosses_the_cancel_goes_back() -> None:
    context = forked(2)
    context.cancel_all()
    assert words(answer(context, 0, 200)) == "200:0"
    assert answer(context, 1, 487) == []


@pytest.mark.parametrize("end", [ResponseContext.on_timeout, ResponseContext.on_failed])
def test_a_cancelled_branch_that_never_answers_brings_487(end: object) -> None:
    context = forked(1)
    context.cancel_all()
    actions = end(context, key(0))  # type: ignore[operator]  # one of two methods
    assert words(actions) == "487:-"


def test_a_non_invite_is_not_cancelled() -> None:
    context = forked(2, "OPTIONS")
    assert context.cancel_all() == []
    assert answer(context, 0, 603) == []


def test_timer_c_cancels_what_rings_too_long() -> None:
    context = forked(2)
    answer(context, 0, 180, now=10.0)
    answer(context, 1, 100, now=20.0)  # a 100 does not move timer C
    assert context.next_timer() == 180.0
    assert context.run_timers(179.9) == []
    assert words(context.run_timers(180.0)) == "cancel:1"
    assert context.next_timer() == 190.0
    assert words(context.run_timers(200.0)) == "cancel:0"
    assert context.next_timer() is None
    assert answer(context, 0, 180, now=201.0) != []
    assert context.next_timer() is None
    assert context.on_timeout(key(1)) == []
    assert words(answer(context, 0, 487, now=213.0)) == "408:-"


def test_timer_c_gives_up_at_once_what_never_said_anything() -> None:
    context = forked(1)
    assert words(context.run_timers(180.0)) == "cancel:0 408:-"
    assert context.done
    assert context.run_timers(1000.0) == []


def test_timer_c_of_a_branch_that_is_cancelled_already_only_ends_it() -> None:
    context = forked(1)
    context.cancel_all()
    assert words(context.run_timers(180.0)) == "487:-"


def test_timer_c_runs_for_an_invite_only() -> None:
    assert forked(1, "OPTIONS").next_timer() is None


def test_a_replaced_branch_counts_no_more() -> None:
    context = forked(2)
    context.replace(key(0), key(7), 10.0)
    assert answer(context, 0, 200) == []
    assert answer(context, 1, 486) == []
    assert context.next_timer() == 190.0
    assert words(answer(context, 7, 404)) == "486:1"


def test_a_branch_that_has_ended_can_be_replaced() -> None:
    context = forked(1)
    answer(context, 0, 407)
    done = [context.done]
    context.replace(key(0), key(7), 10.0)
    done.append(context.done)
    assert words(answer(context, 7, 200)) == "200:7"
    assert [*done, context.done] == [True, False, True]
