// Go's half of the comparison: `rivals-go run ROW` prints a line "value X" for each number of the row, and
// `rivals-go serve BUFFER_BYTES` is an echo server until standard input ends. GOMAXPROCS says how many processors;
// RIVALS_QUICK asks for a tenth of the work.
package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

var quick = os.Getenv("RIVALS_QUICK") != ""

// Numbers of one round, in the order of the row's metrics.
type values []float64

var rows = map[string]func() values{
	"spawn_join_all":            func() values { return rounds(spawnJoinAll) },
	"spawn_join_one":            func() values { return rounds(spawnJoinOne) },
	"yield_2":                   func() values { return rounds(func() values { return yieldAmong(2) }) },
	"yield_1000":                func() values { return rounds(func() values { return yieldAmong(1000) }) },
	"park_unpark_pingpong":      func() values { return rounds(pingPong) },
	"spawn_from_foreign_thread": func() values { return rounds(spawnLocked) },
	"sleep_100k":                func() values { return rounds(sleepAll) },
	"skynet_1m":                 func() values { return rounds(skynetSum) },
	"parked_1m":                 parked, // once, on fresh memory
	"channel_rendezvous":        func() values { return rounds(channelRendezvous) },
	"channel_1_1":               func() values { return rounds(func() values { return channelCrowd(1) }) },
	"channel_8_8":               func() values { return rounds(func() values { return channelCrowd(8) }) },
	"select_2":                  func() values { return rounds(selectOf2) },
	"select_8":                  func() values { return rounds(selectOf8) },
	"mutex_2":                   func() values { return rounds(func() values { return mutexAmong(2) }) },
	"mutex_8":                   func() values { return rounds(func() values { return mutexAmong(8) }) },
	"mutex_64":                  func() values { return rounds(func() values { return mutexAmong(64) }) },
	"rwlock_read_mostly":        func() values { return rounds(readMostly) },
	"timer_reset":               func() values { return rounds(resetDeadline) },
	"timer_reset_waited":        func() values { return rounds(resetDeadlineWaited) },
	"steal_fanout":              func() values { return rounds(fanOut) },
	"wake_latency":              wakeLatency,
	"noisy_neighbour_hogs":      func() values { return rounds(besideHogs) },
	"noisy_neighbour_blocked":   func() values { return rounds(besideBlocked) },
	"blocking_handoff":          func() values { return rounds(blockingHandoff) },
}

func main() {
	if len(os.Args) == 3 {
		if row, ok := rows[os.Args[2]]; ok && os.Args[1] == "run" {
			for _, value := range row() {
				fmt.Println("value", value)
			}
			return
		}
		if bytes, err := strconv.Atoi(os.Args[2]); err == nil && os.Args[1] == "serve" {
			serve(bytes)
		}
	}
	fmt.Fprintln(os.Stderr, "usage: rivals-go run ROW | rivals-go serve BUFFER_BYTES")
	os.Exit(2)
}

// As much as asked, or a tenth.
func count(full int) int {
	if quick {
		return full / 10
	}
	return full
}

// Medians of the measured rounds, after one that warms up.
func rounds(once func() values) values {
	once()
	n := 5
	if quick {
		n = 1
	}
	all := make([]values, n)
	for i := range all {
		all[i] = once()
	}
	medians := make(values, len(all[0]))
	for column := range medians {
		numbers := make([]float64, n)
		for i := range all {
			numbers[i] = all[i][column]
		}
		slices.Sort(numbers)
		medians[column] = numbers[n/2]
	}
	return medians
}

func nanosEach(start time.Time, n int) float64 {
	return float64(time.Since(start).Nanoseconds()) / float64(n)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
