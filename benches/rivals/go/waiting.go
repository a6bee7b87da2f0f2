package main

import (
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"
)

var yieldsEach int

func yields() {
	for range yieldsEach {
		runtime.Gosched()
	}
	group.Done()
}

func yieldAmong(n int) values {
	yieldsEach = count(4_000_000) / n
	start := time.Now()
	group.Add(n)
	for range n {
		go yields()
	}
	group.Wait()
	return values{nanosEach(start, n*yieldsEach)}
}

func pingPong() values {
	trips := count(1_000_000)
	ping, pong := make(chan struct{}), make(chan struct{})
	go func() {
		for range trips {
			<-ping
			pong <- struct{}{}
		}
	}()
	start := time.Now()
	for range trips {
		ping <- struct{}{}
		<-pong
	}
	return values{nanosEach(start, trips)}
}

var (
	arrived atomic.Int64
	gate    = make(chan struct{})
)

func waitAtGate() {
	arrived.Add(1)
	<-gate
	group.Done()
}

func parked() values {
	n := count(1_000_000)
	runtime.GC()
	before := memoryOfSelf()
	start := time.Now()
	group.Add(n)
	for range n {
		go waitAtGate()
	}
	for arrived.Load() != int64(n) {
		time.Sleep(time.Millisecond)
	}
	seconds := time.Since(start).Seconds() * 1_000_000 / float64(n)
	after := memoryOfSelf()
	close(gate)
	group.Wait()
	return values{
		seconds,
		float64(after.private-before.private) / float64(n),
		float64(after.pageTables-before.pageTables) / float64(n),
	}
}

// A goroutine that holds its thread and sleeps in the kernel stands for the foreign thread that wakes.
func wakeLatency() values {
	wakes := count(3000)
	bell, answer := make(chan time.Time, 1), make(chan struct{}, 1)
	late := make([]int64, 0, wakes)
	go func() {
		for sent := range bell {
			late = append(late, time.Since(sent).Nanoseconds())
			answer <- struct{}{}
		}
	}()
	pause := syscall.Timespec{Nsec: 500_000}
	runtime.LockOSThread()
	for range wakes {
		_ = syscall.Nanosleep(&pause, nil) // cut short by a signal it is only shorter
		bell <- time.Now()
		_ = syscall.Nanosleep(&pause, nil)
		<-answer
	}
	close(bell)
	slices.Sort(late)
	at := func(percent int) float64 { return float64(late[(len(late)-1)*percent/100]) }
	return values{at(50), at(99)}
}
