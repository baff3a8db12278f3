"""The pure heart of Leanfuse: pydantic and numpy only, no input or output, no clock."""
