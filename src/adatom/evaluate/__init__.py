"""How wrong a potential is, on labelled structures and in dynamics."""

from adatom.evaluate.errors import ErrorSummary, summarize
from adatom.evaluate.evaluation import Evaluation, evaluate

__all__ = ["ErrorSummary", "Evaluation", "evaluate", "summarize"]
