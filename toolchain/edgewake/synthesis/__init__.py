"""From a phrase to audio: how it is said, what sounds like it, and voices that say both."""
