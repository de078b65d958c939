"""Helpers before a training: which learning rate, how large a batch. They change nothing."""

from adatom.training.tuning.batch_scaling import BatchScaling, BatchTrial
from adatom.training.tuning.learning_rate_sweep import RateCurve
from adatom.training.tuning.trainer import UnitTrainer

__all__ = ["BatchScaling", "BatchTrial", "RateCurve", "UnitTrainer"]
