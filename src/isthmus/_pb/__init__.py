"""Generated from proto/ by protoc (`make proto`); folders mirror the proto packages. Never edited by hand."""
