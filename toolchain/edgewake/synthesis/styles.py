"""Speaking styles: what is said around a phrase, how fast, called out or whispered; drawn by weight."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from edgewake.synthesis.speakers import Change

Style = Literal["alone", "command", "after", "between", "slow", "fast", "called", "whispered"]
# Of clips of a phrase. In a sentence it is said by engines alone that give the times of phonemes.
STYLES: dict[Style, float] = {
    "alone": 0.44, "command": 0.16, "after": 0.1, "between": 0.05,
    "slow": 0.08, "fast": 0.08, "called": 0.06, "whispered": 0.03,
}  # fmt: skip
IN_SENTENCE = ("command", "after", "between")
# Voices read more slowly than most people call out a phrase.
USUAL_SPEEDS = (0.85, 1.35)
_SPEEDS = {"slow": (0.65, 0.85), "fast": (1.3, 1.6)}
_COMMANDS = (
    "turn on the lights", "what time is it", "set a timer for ten minutes", "play some music", "stop", "how are you",
    "call my mother", "turn it down please", "what's the weather like tomorrow", "open the door",
    "add milk to my list",
    "good morning", "can you hear me", "next song", "wake me up at seven", "who won the game last night",
    "dim the lamp",
    "tell me a joke", "remind me to water the plants", "is it going to rain", "start the vacuum cleaner",
    "cancel that",
    "how far is the station", "read the news", "lock the front door", "I need help", "volume up",
    "switch off the heating",
)  # fmt: skip
_OPENERS = (
    "I don't know.", "Just a moment,", "Okay,", "That was a long day.", "He said it again yesterday.", "Come on,",
    "We should go now.", "Where did I put my keys?", "Well,", "Let's try this.", "No, wait,", "Dinner is ready.",
    "Ask them later.", "It's getting late.", "So,", "Please,", "She left an hour ago.", "Look,", "And then I said",
    "You can simply say", "Thank you very much.", "I think we have to ask",
)  # fmt: skip


def around(style: Style, rng: np.random.Generator) -> tuple[str, str]:
    """What is said before and after the phrase."""
    before = str(rng.choice(_OPENERS)) if style in ("after", "between") else ""
    after = str(rng.choice(_COMMANDS)) if style in ("command", "between") else ""
    return before, after


def speed(style: Style, rng: np.random.Generator) -> float:
    """A factor of the speed."""
    return round(float(rng.uniform(*_SPEEDS.get(style, USUAL_SPEEDS))), 2)


def styled(style: Style, change: Change, rng: np.random.Generator) -> Change:
    """The speaker in that style: a call is higher, longer and brighter; a whisper has no voice."""
    if style == "called":
        pitch, tilt = change.pitch * rng.uniform(1.15, 1.5), rng.uniform(2.0, 5.0)
        longer, wider = change.duration * rng.uniform(1.05, 1.3), change.intonation * rng.uniform(1.0, 1.5)
        pitch, tilt, longer, wider = (round(float(value), 3) for value in (pitch, tilt, longer, wider))
        return replace(change, pitch=pitch, tilt=tilt, duration=longer, intonation=wider)
    return replace(change, whispered=True) if style == "whispered" else change
