"""The centralized model, computed from pooled data: what the federation is compared with."""

from common.reference.centralized import centralized
from common.reference.certified import Reference
from common.reference.finite import minimiser
from common.reference.hard_margin import max_margin
from common.reference.multiclass import crammer_singer
from common.reference.squares import least_squares

__all__ = ["Reference", "centralized", "crammer_singer", "least_squares", "max_margin", "minimiser"]
