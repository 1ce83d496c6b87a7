"""``python -m hasten.testing``: the scripted upstream alone."""

from __future__ import annotations

import argparse
import asyncio
import contextlib

from hasten.testing import Script, ScriptedUpstream


def main() -> None:
    """Run the scripted upstream until it is interrupted."""
    parser = argparse.ArgumentParser(
        prog="python -m hasten.testing", description="An upstream without a model."
    )
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--ttft-ms", type=float, default=0.0)
    parser.add_argument("--itl-ms", type=float, default=0.0)
    parser.add_argument("--repeat", type=int, default=1, help="how often the seven tokens are said")
    args = parser.parse_args()
    script = Script(ttft=args.ttft_ms / 1e3, itl=args.itl_ms / 1e3, repeat=args.repeat)

    async def serve() -> None:
        async with ScriptedUpstream(script, args.port, keep=False) as upstream:
            print(f"scripted upstream on {upstream.base_url}", flush=True)
            await asyncio.Event().wait()

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())


if __name__ == "__main__":
    main()
