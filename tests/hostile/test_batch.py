"""The batches themselves: the one image that does harm is named, and its neighbours are not blamed."""
import json
import types

import pytest

import batch
import verdicts

DEAD, SLOW, LARGE = {"status": -11}, {"status": None}, {"resident": 1 << 30}


@pytest.fixture
def cases():
    return [verdicts.Case(name, "nothing wrong", verdicts.good(), lambda image: None)
            for name in ("first", "second", "third")]


@pytest.mark.parametrize("harm", [DEAD, SLOW, LARGE, {"cpu_seconds": 1.5}, {"output": b"[\x1b[2J]"}])
def test_the_harmful_one_is_named(monkeypatch, cases, tmp_path, harm):
    asked = []

    def run(_directory, *arguments):
        paths = [argument for argument in arguments if str(argument).endswith(".vhdx")]
        asked.append(len(paths))
        documents = [{"findings": []} for _ in paths]
        done = {"status": 0, "resident": 0, "cpu_seconds": 0, "error": b"",
                "output": json.dumps(documents if len(paths) > 1 else documents[0]).encode()}
        if any(path.stem == "second" for path in paths):
            done.update(harm)
        return types.SimpleNamespace(**done)

    monkeypatch.setattr(batch, "make_batches", lambda: [cases])
    monkeypatch.setattr(batch, "READERS", (("check", "--json"),))
    batches = batch.Batches(run, tmp_path)
    said = {case.name: batches.subject(case).said["check", "--json"] for case in cases}
    batches.close()
    assert isinstance(said.pop("second"), AssertionError)
    assert list(said.values()) == [{"findings": []}] * 2
    assert asked == [3, 1, 1, 1]
