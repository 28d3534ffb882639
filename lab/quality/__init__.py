"""The quality benchmark: the papers' methods on the mini world, judged picture by picture. See docs/quality.md."""
