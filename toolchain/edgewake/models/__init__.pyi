"""The public names of edgewake.models, for `lazy_loader` and for type checkers."""

from .factory import ARCHITECTURES as ARCHITECTURES
from .factory import create_model as create_model
from .featurizer import make_featurizer as make_featurizer
from .huggingface import Wav2VecWakeword as Wav2VecWakeword
from .tiny_conv import TinyConv as TinyConv
