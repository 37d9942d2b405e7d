"""Arithmetic of the network's layers."""

from contextlib import AbstractContextManager, nullcontext

import torch

from pipeline.config import Precision

AUTOCAST_DTYPES: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Compute layers in the precision asked for; weights, norms and the last layer stay float32."""
    dtype = AUTOCAST_DTYPES.get(precision)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def use_tensor_cores(*, enabled: bool) -> None:
    """Let a GPU multiply float32 with 10 bits of mantissa, or not; torch's own choice differs by layer."""
    torch.backends.cudnn.allow_tf32 = enabled
    torch.backends.cuda.matmul.allow_tf32 = enabled
