"""Answers of the server to the editor's scripts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from aiohttp import web
from server import PromptServer


def answer(path: str, reply: Callable[[Mapping[str, str]], Any]) -> None:
    """GET `path` is answered with JSON: what `reply` makes of the query. A ValueError is answered as {"error": …}.

    In a thread: the server goes on meanwhile.
    """

    async def handle(request: web.Request) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(reply, request.query))
        except ValueError as error:
            return web.json_response({"error": str(error)})

    instance = getattr(PromptServer, "instance", None)
    if instance is not None:  # there is none where nodes are used without a server
        instance.routes.get(path)(handle)
