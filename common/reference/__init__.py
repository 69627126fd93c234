"""The centralized model, computed from pooled data: what the federation is compared with."""

from common.reference.certified import Reference
from common.reference.hard_margin import max_margin

__all__ = ["Reference", "max_margin"]
