"""The engine `transformers`: Hugging Face models in this process. The only room of the policy with torch in it."""
