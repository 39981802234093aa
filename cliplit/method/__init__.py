"""The method CLIP-LIT (ICCV 2023). Read its modules in this order:

losses        prompt initialization, CLIP-Enhance, identity, margin ranking           paper, sections 3.1 and 3.2
enhancer      the network: an illumination map; result = image / illumination         section 3.1, figure 2
guidance/     base, then clip_lit (the prompt pair), others, registry                  section 3.1
schedule      order, length and margins of the stages                                  section 3.2, released code
training      one function for each stage: initialize_prompts ... refine_prompts       sections 3.1 and 3.2

Other modules: clip (the frozen CLIP, used as in the paper), clip_weights, augmentation, checkpoints, run (the stages of
the method in a run directory) and run_images (its images).
"""
