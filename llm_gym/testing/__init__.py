"""What authors of plug-ins and tests of one's own need: tiny models and conformance tests."""
