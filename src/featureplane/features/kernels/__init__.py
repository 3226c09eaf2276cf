"""Per-event arithmetic, the reference of every feature, and the words to compose it in.

    declarations   what every kernel says about itself (rule 8)
    expression     a kernel bound to parameters and inputs; + - * /
    constructors   one function a kernel; re-exported here

>>> from featureplane.features import kernels as k
>>> print(k.ema(k.ofi(level=1), span=8))
ema(ofi(), span=8)
"""

from featureplane.features.kernels import constructors
from featureplane.features.kernels.constructors import *  # noqa: F403 - its __all__ is the list of kernels
from featureplane.features.kernels.declarations import KERNEL_ABI, KERNELS, KernelDeclaration
from featureplane.features.kernels.expression import Expression

__all__ = ["KERNELS", "KERNEL_ABI", "Expression", "KernelDeclaration"]
__all__ += constructors.__all__
