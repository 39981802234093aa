"""Data sets: downloaded, verified, prepared and synthesized; and the images of the demo. Nothing here knows a run."""
