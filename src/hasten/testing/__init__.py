"""Test doubles, public: a clock, an engine, and an upstream server that does what a script says.

``python -m hasten.testing --port 9000`` runs the scripted upstream alone: an OpenAI-compatible server without a model.
"""

from hasten.testing.answers import Script, chat_chunk
from hasten.testing.doubles import FakeClock, FakeEngine, FakeSource, fake_stream
from hasten.testing.upstream import Recorded, ScriptedUpstream

__all__ = [
    "FakeClock",
    "FakeEngine",
    "FakeSource",
    "Recorded",
    "Script",
    "ScriptedUpstream",
    "chat_chunk",
    "fake_stream",
]
