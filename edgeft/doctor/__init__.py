"""Before step 0: whether a configuration will work on this machine, what it needs, and how long it takes."""

from edgeft.doctor.checks import Check, check_configuration, check_machine, survival_checks
from edgeft.doctor.forecast import Forecast, forecast
from edgeft.doctor.machine import Gpu, LlamaCpp, Machine, examine, examine_llama_cpp

__all__ = [
    "Check",
    "Forecast",
    "Gpu",
    "LlamaCpp",
    "Machine",
    "check_configuration",
    "check_machine",
    "examine",
    "examine_llama_cpp",
    "forecast",
    "survival_checks",
]
