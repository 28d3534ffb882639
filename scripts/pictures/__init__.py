"""The project's pictures: thumbnails of the workflows and pictures of the help pages, drawn from real runs."""
