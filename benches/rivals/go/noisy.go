package main

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	tickers  = 100
	blockers = 100
	period   = 10 * time.Millisecond
)

func atPerMille(late []int64, perMille int) float64 {
	return float64(late[(len(late)-1)*perMille/1000])
}

// 100 goroutines tick every 10 ms beside noise; how late the ticks are, in microseconds.
func tickBeside(noisy int, noise func(index int, over func() bool)) values {
	ticks := count(200)
	start := time.Now().Add(20 * time.Millisecond)
	end := start.Add(time.Duration(ticks) * period)
	over := func() bool { return !time.Now().Before(end) }
	late := make([]int64, tickers*ticks)
	var all sync.WaitGroup
	all.Add(tickers + noisy)
	for ticker := range tickers {
		go func() {
			first := start.Add(period * time.Duration(ticker) / tickers)
			for tick := range ticks {
				due := first.Add(time.Duration(tick) * period)
				if wait := time.Until(due); wait > 0 {
					time.Sleep(wait)
				}
				late[ticker*ticks+tick] = max(0, time.Since(due).Nanoseconds())
			}
			all.Done()
		}()
	}
	for index := range noisy {
		go func() {
			noise(index, over)
			all.Done()
		}()
	}
	all.Wait()
	slices.Sort(late)
	return values{atPerMille(late, 500) / 1e3, atPerMille(late, 990) / 1e3, atPerMille(late, 999) / 1e3}
}

func besideHogs() values {
	return tickBeside(runtime.GOMAXPROCS(0), func(_ int, over func() bool) {
		for !over() {
			spin(10 * stepsAMicrosecond)
		}
	})
}

func besideBlocked() values {
	return tickBeside(blockers, func(index int, over func() bool) {
		for !over() {
			nap := syscall.NsecToTimespec(10_000_000 + 40_000_000*int64(index)/blockers)
			for syscall.Nanosleep(&nap, &nap) == syscall.EINTR {
			}
			runtime.Gosched()
		}
	})
}

// Go announces no blocking: its idle is a system call, and the hand-off is the scheduler's own to notice.
func blockingHandoff() values {
	before := runtime.GOMAXPROCS(1)
	defer runtime.GOMAXPROCS(before)
	calls, handOffs := count(100_000), count(200)
	start := time.Now()
	for range calls {
		_, _, _ = syscall.Syscall(syscall.SYS_GETPPID, 0, 0, 0)
	}
	idle := nanosEach(start, calls)
	took := make([]int64, 0, handOffs)
	for range handOffs {
		var ran atomic.Int64
		began := time.Now()
		go func() { ran.Store(time.Since(began).Nanoseconds()) }()
		called := time.Since(began).Nanoseconds()
		nap := syscall.NsecToTimespec(20_000_000)
		for syscall.Nanosleep(&nap, &nap) == syscall.EINTR {
		}
		for ran.Load() == 0 {
			runtime.Gosched()
		}
		took = append(took, ran.Load()-called)
	}
	slices.Sort(took)
	return values{idle, atPerMille(took, 500), atPerMille(took, 990)}
}
