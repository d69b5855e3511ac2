"""Everything a training imports, for the clean server process that the tests fork their runs from (threads of these imports do not survive a fork)."""
import lightning.fabric  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import safetensors.torch  # noqa: F401
import scipy.ndimage  # noqa: F401
import scipy.signal  # noqa: F401
import torchmetrics  # noqa: F401

import humanbody.models.dstformer  # noqa: F401
import training_tools  # noqa: F401
