"""What a campaign costs and how it scales: measured from runs, fitted, estimated, replayed, and shown on a page."""
