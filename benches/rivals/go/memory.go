package main

import (
	"os"
	"strconv"
	"strings"
)

// Bytes that only this process has, and bytes of its page tables.
type memory struct{ private, pageTables int64 }

func memoryOfSelf() memory {
	rollup, err := os.ReadFile("/proc/self/smaps_rollup")
	check(err)
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	return memory{
		private:    kilobytes(string(rollup), "Private_Clean:") + kilobytes(string(rollup), "Private_Dirty:"),
		pageTables: kilobytes(string(status), "VmPTE:"),
	}
}

func kilobytes(text, field string) int64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			number, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			check(err)
			return number * 1024
		}
	}
	return 0
}
