"""Where people look for the Wav2Vec2 teacher; it is defined in `edgewake.teachers.huggingface`."""

from edgewake.teachers.huggingface import Wav2VecWakeword

__all__ = ["Wav2VecWakeword"]
