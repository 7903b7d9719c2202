"""bitsandbytes' paged optimizer, which never frees the paged memory that it once allocated."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from bitsandbytes.optim import PagedAdamW8bit

MOMENTS = ("state1", "state2")


class PagedAdamW(PagedAdamW8bit):  # type: ignore[misc] # it has no types
    """With its paged memory used again, also for a state that is loaded: that would stay on the GPU, unpaged."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._unused: dict[torch.Tensor, list[torch.Tensor]] = defaultdict(list)

    def forget(self) -> None:
        """Back to where the first step begins."""
        for parameter, state in self.state.items():
            moments = [state[name] for name in MOMENTS if name in state]
            self._unused[parameter] += [moment for moment in moments if getattr(moment, "is_paged", False)]
        self.state.clear()

    def get_state_buffer(self, p: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Zeros for one of a parameter's moments, which always have the same type."""
        if self._unused[p]:
            return self._unused[p].pop().zero_()
        found: torch.Tensor = super().get_state_buffer(p, dtype)
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Each moment where it would be had it been trained here."""
        self.forget()
        super().load_state_dict(state_dict, move_to_device=False)
        for parameter, state in self.state.items():
            for name, value in state.items():
                if name in MOMENTS:
                    state[name] = self.get_state_buffer(parameter, value.dtype).copy_(value)
                elif isinstance(value, torch.Tensor):
                    state[name] = value.to(parameter.device)
