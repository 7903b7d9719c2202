"""What an architecture is: its linear layers, its experts, and the sums that memory, speed and adapters need."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from spotune.contracts.errors import RequestRefused


@dataclass(frozen=True, slots=True)
class Linear:
    """A linear layer of the decoder's blocks, by the name that its module has in transformers."""

    name: str
    inputs: int
    outputs: int
    bias: bool
    group: Literal["attention", "mlp"]
    layers: int
    """Blocks that have it."""

    @property
    def weights(self) -> int:
        """Of one block, without the bias."""
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        """Weights and biases, over all blocks."""
        return self.layers * (self.weights + (self.outputs if self.bias else 0))


@dataclass(frozen=True, slots=True)
class Experts:
    """Gated MLPs of which each token takes a few. In transformers they are one tensor a block, no linear modules."""

    layers: int
    """Blocks that have them; the others are dense."""
    count: int
    per_token: int
    hidden: int
    intermediate: int

    @property
    def parameters(self) -> int:
        """Of all experts, over all blocks."""
        return self.layers * self.count * 3 * self.hidden * self.intermediate

    @property
    def active(self) -> int:
        """Of those that one token takes."""
        return self.layers * self.per_token * 3 * self.hidden * self.intermediate

    @property
    def router(self) -> int:
        """Weights that choose them."""
        return self.layers * self.count * self.hidden


@dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer. Counts are parameters, not bytes."""

    family: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    """Inner size of the MLP that one token passes through: with experts, those that it takes and the shared one."""
    vocabulary: int
    context: int
    """Longest sequence that the position embedding was made for."""
    tied: bool
    linears: tuple[Linear, ...]
    """Those of the blocks, each with the number of blocks that have it."""
    embedding: int
    """Token and learned position embeddings, with projections of either, where the family has them."""
    norms: int
    gated: bool = True
    """Gate, up and down projections (SwiGLU, GeGLU); else two linear layers."""
    softcapped: bool = False
    """Attention scores and logits pass through a tanh, which keeps more copies of both for the backward pass."""
    biased_norms: bool = False
    head_bias: bool = False
    experts: Experts | None = None
    vision: int = 0
    """A vision tower that is loaded with the language model: it takes memory, and no part in training on text."""

    @cached_property
    def attention(self) -> int:
        """Attention's linear layers, over all blocks."""
        return sum(linear.parameters for linear in self.linears if linear.group == "attention")

    @cached_property
    def mlp(self) -> int:
        """The MLPs' linear layers over all blocks, with all experts and their routers."""
        dense = sum(linear.parameters for linear in self.linears if linear.group == "mlp")
        return dense + (self.experts.parameters + self.experts.router if self.experts else 0)

    @cached_property
    def head(self) -> int:
        """The output projection; where it shares the token embedding, its bias alone."""
        return (0 if self.tied else self.vocabulary * self.hidden) + (self.vocabulary if self.head_bias else 0)

    @cached_property
    def parameters(self) -> int:
        """All of them, as transformers counts them."""
        return self.embedding + self.attention + self.mlp + self.norms + self.head + self.vision

    @cached_property
    def active_parameters(self) -> int:
        """Those that one token of text passes through: all but the other experts and the vision tower."""
        idle = self.experts.parameters - self.experts.active if self.experts else 0
        return self.parameters - self.vision - idle

    @cached_property
    def matmul_parameters(self) -> int:
        """Weights that each token is multiplied with: the blocks and the head, tied or not, without the look-up."""
        idle = self.experts.parameters - self.experts.active if self.experts else 0
        return self.attention + self.mlp - idle + self.vocabulary * self.hidden

    @cached_property
    def quantizable_parameters(self) -> int:
        """Weights of the blocks' linear modules: what bitsandbytes quantizes. Fused experts stay as they are."""
        return sum(linear.layers * linear.weights for linear in self.linears)

    @cached_property
    def final_norm(self) -> int:
        """The norm behind the last block."""
        return 2 * self.hidden if self.biased_norms else self.hidden

    @cached_property
    def widest(self) -> int:
        """Weights of the largest linear layer."""
        return max(linear.weights for linear in self.linears)

    @cached_property
    def block_parameters(self) -> int:
        """Parameters of one block, on average."""
        return (self.attention + self.mlp + self.norms) // self.layers

    def targets(self, choice: str | tuple[str, ...]) -> tuple[Linear, ...]:
        """The linear layers that an adapter sits on.

        Args:
            choice: `attention`, `all-linear`, or names of modules.

        Raises:
            RequestRefused: a name that no block has.
        """
        if choice == "all-linear":
            return self.linears
        if choice == "attention":
            return tuple(linear for linear in self.linears if linear.group == "attention")
        known = {linear.name for linear in self.linears}
        if unknown := [name for name in choice if name not in known]:
            raise RequestRefused(
                f"{self.family} has no linear layer named {', '.join(unknown)}.",
                code="unknown_target_module",
                param="adapter.target_modules",
                remedy=f"Choose among {', '.join(sorted(known))}, or 'attention', or 'all-linear'.",
            )
        return tuple(linear for linear in self.linears if linear.name in choice)
