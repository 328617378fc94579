"""The configuration: strict pydantic models, loaded from TOML."""

from edgeft.config.load import load_config
from edgeft.config.quantizing import ImatrixConfig, QuantizeConfig
from edgeft.config.section import Section
from edgeft.config.sections import (
    COMPRESSED_SUFFIXES,
    PREFERRED_MERGE_BASE,
    RECORD_SUFFIXES,
    Config,
    ConvertConfig,
    DatasetConfig,
    EvalConfig,
    MergeConfig,
    ParityConfig,
    ParityThresholds,
    SourceConfig,
)
from edgeft.config.training import MOVED_STARTS, Ia3Config, LoraConfig, QuantizationConfig, TrainConfig

__all__ = [
    "COMPRESSED_SUFFIXES",
    "MOVED_STARTS",
    "PREFERRED_MERGE_BASE",
    "RECORD_SUFFIXES",
    "Config",
    "ConvertConfig",
    "DatasetConfig",
    "EvalConfig",
    "Ia3Config",
    "ImatrixConfig",
    "LoraConfig",
    "MergeConfig",
    "ParityConfig",
    "ParityThresholds",
    "QuantizationConfig",
    "QuantizeConfig",
    "Section",
    "SourceConfig",
    "TrainConfig",
    "load_config",
]
