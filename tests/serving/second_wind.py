"A policy that the package does not have, written as a user would write one: nothing but this class and its name."
from dataclasses import dataclass

from z1.policies import POLICIES
from z1.window import Policy, ShiftedWindow


@dataclass(frozen=True)
class SecondWind(Policy):
    "At the window say `wait_ids` and give as many tokens again; then force the hint."
    window: int
    wait_ids: tuple[int, ...]
    hint_ids: tuple[int, ...]
    eos_ids: tuple[int, ...]
    answer_tokens: int = 16
    name: str = "second_wind"
    end_ids = ()

    @property
    def forced(self): return self.wait_ids

    @property
    def max_tokens(self): return 2 * self.window + len(self.wait_ids)

    def resume(self, ids):
        if len(ids) < self.max_tokens or ids[-1] in self.eos_ids: return None
        return ShiftedWindow(self.max_tokens, self.hint_ids, self.eos_ids, self.answer_tokens), tuple(ids)


def registered(monkeypatch):
    "Make it known by its name."
    monkeypatch.setitem(POLICIES, "second_wind", lambda window, w: SecondWind(window, w.wait, w.hint, w.eos, w.answer_tokens))
