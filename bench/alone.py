"""What one REGISTER and one call cost the edge when nothing else is there: embedded RADIUS server over an LDIF file."""

from __future__ import annotations

from bench.blast import cost_of_repetition
from bench.edge import Nomad
from bench.load import Load, Run
from bench.setting import PEOPLE, Result, Setting, per_group, spread
from bench.stack import Pbx

TARGETS_US = {"register": 500.0, "call": 1500.0}  # issue 2
INFOS = 20  # messages within a call
RELAYED_US, REPEATED_US = 150.0, 40.0  # issue 3: a request or response relayed within a call, a repetition absorbed


def measure(setting: Setting) -> Result:
    """CPU microseconds per operation, of the edge and apart of its RADIUS server."""
    pbx = Pbx(setting.folder / "alone-pbx")
    edge = Nomad(setting.folder / "alone", pbx.address, count=PEOPLE)
    try:
        # what is done once, at the first requests, is no cost per request
        setting.caller.run(edge.port, Load("register", 100, 1), edge.groups())
        setting.caller.run(edge.port, Load("call", 50, 1), edge.groups())
        runs: dict[str, list[Run]] = {"register": [], "call": []}
        for turn in range(setting.repeats):
            for load in setting.loads():
                setting.say(f"edge alone, {load.scenario} {load.rate:g}/s, turn {turn + 1} of {setting.repeats}")
                runs[load.scenario].append(setting.caller.run(edge.port, load, edge.groups(), settle_s=0.5))
        # what is relayed within a call: the same calls with and without 20 messages, at the same rate
        seconds = 2.0 if setting.quick else 5.0
        pair = Load("call", 20, seconds, hold_s=0.5), Load("call", 20, seconds, infos=INFOS)
        relayed = []
        for turn in range(setting.repeats):
            setting.say(f"edge alone, messages within calls, turn {turn + 1} of {setting.repeats}")
            plain, chatty = (setting.caller.run(edge.port, load, edge.groups(), settle_s=0.5) for load in pair)
            relayed.append((chatty.cpu_us["edge"] - plain.cpu_us["edge"]) / INFOS / 2)  # an INFO and its answer
        repeated = [cost_of_repetition(edge.port, edge.groups()) for _ in range(1 if setting.quick else 3)]
        statuses = [status for status, _ in edge.records()]
    finally:
        edge.stop()
        pbx.stop()
    return {
        **{
            name: {
                "cpu_us": per_group(each),
                "target_us": TARGETS_US[name],
                "calibration_us": spread(run.calibration_us for run in each),
                "runs": [run.summary() for run in each],
            }
            for name, each in runs.items()
        },
        "relayed_in_dialog": {"cpu_us": spread(relayed), "target_us": RELAYED_US},
        "repetition_absorbed": {"cpu_us": spread(repeated), "target_us": REPEATED_US},
        "accounting": {"start": statuses.count("Start"), "stop": statuses.count("Stop")},
    }
