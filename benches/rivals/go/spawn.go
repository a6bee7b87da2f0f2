package main

import (
	"runtime"
	"sync"
	"time"
)

// Package variables instead of captured ones: `go` on a function without arguments allocates no closure.
var group sync.WaitGroup

func empty() { group.Done() }

func spawnJoinAll() values {
	n := count(1_000_000)
	start := time.Now()
	group.Add(n)
	for range n {
		go empty()
	}
	group.Wait()
	return values{nanosEach(start, n)}
}

func spawnJoinOne() values {
	n := count(1_000_000)
	start := time.Now()
	for range n {
		group.Add(1)
		go empty()
		group.Wait()
	}
	return values{nanosEach(start, n)}
}

// Every thread of Go is its own; a goroutine that holds its thread comes nearest to a foreign one.
func spawnLocked() values {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	n := count(500_000)
	start := time.Now()
	group.Add(n)
	for range n {
		go empty()
	}
	group.Wait()
	return values{nanosEach(start, n)}
}

func nap() {
	time.Sleep(time.Millisecond)
	group.Done()
}

func sleepAll() values {
	n := count(100_000)
	start := time.Now()
	group.Add(n)
	for range n {
		go nap()
	}
	group.Wait()
	return values{nanosEach(start, n)}
}

func skynet(to chan<- uint64, number, size uint64) {
	if size == 1 {
		to <- number
		return
	}
	below := size / 10
	from := make(chan uint64, 10)
	for child := range uint64(10) {
		go skynet(from, number+child*below, below)
	}
	sum := uint64(0)
	for range 10 {
		sum += <-from
	}
	to <- sum
}

func skynetSum() values {
	leaves := uint64(1_000_000)
	if quick {
		leaves /= 100
	}
	to := make(chan uint64, 1)
	start := time.Now()
	go skynet(to, 0, leaves)
	sum := <-to
	nanos := nanosEach(start, int(leaves))
	if sum != leaves*(leaves-1)/2 {
		panic("the tree lost a leaf")
	}
	return values{nanos}
}

// A chain of xorshifts, as in the Rust half.
//
//go:noinline
func spin(steps int) uint64 {
	state := uint64(1)
	for range steps {
		state ^= state << 13
		state ^= state >> 7
		state ^= state << 17
	}
	return state
}

const stepsAMicrosecond = 400

func shortWork() {
	spin(stepsAMicrosecond)
	group.Done()
}

func longWork() {
	spin(50 * stepsAMicrosecond)
	group.Done()
}

func fanOut() values {
	short, long := count(200_000), count(20_000)
	start := time.Now()
	group.Add(short)
	for range short {
		go shortWork()
	}
	group.Wait()
	shortNanos := nanosEach(start, short)
	start = time.Now()
	group.Add(long)
	for range long {
		go longWork()
	}
	group.Wait()
	return values{shortNanos, nanosEach(start, long)}
}
