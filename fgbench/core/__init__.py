"""What an estimate is made of: networks with taps, objectives, views, the task that walks them."""
