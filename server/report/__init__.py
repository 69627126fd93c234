"""What a person sees of a run: pictures, and one page that shows them."""
