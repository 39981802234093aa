"""CLIP-LIT (ICCV 2023), to be read in this order:

losses        prompt initialization, CLIP-Enhance, identity, margin ranking           paper, sections 3.1 and 3.2
enhancer      the network: an illumination map; result = image / illumination         section 3.1, figure 2
guidance/     base, then clip_lit: the prompt pair that guides it; others; registry    section 3.1
schedule      which part follows which, for how long, with which margins              section 3.2, released code
training      one stage, one function: initialize_prompts ... refine_prompts          sections 3.1 and 3.2

Around it: clip (frozen, read as the paper reads it) and clip_weights, augmentation, checkpoints, and run and run_images,
the stages of the method and its images in a run directory.
"""
