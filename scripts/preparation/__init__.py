"""From bare Python to a ComfyUI that runs this pack. Standard library only; all of it in .venv and .host."""
