"""Walking trees and telling what changed between two of them."""
