"""Downloads, verifies, prepares and synthesizes data sets, and makes the images of the demo. Nothing here knows a run."""
