"""CoRe Personalization for ComfyUI: teach a model your own cat, teapot or toy from a few photos.

Importing this file imports no part of ComfyUI; the nodes are imported when the host asks for them.
"""

WEB_DIRECTORY = "./web"
__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    from .nodes.extension import PersonalizationExtension

    return PersonalizationExtension()
