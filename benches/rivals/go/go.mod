module rivals

go 1.27
