package main

import (
	"sync"
	"time"
)

const buffer = 128

func channelRendezvous() values {
	trips := count(1_000_000)
	ping, pong := make(chan int), make(chan int)
	go func() {
		for trip := range ping {
			pong <- trip
		}
		close(pong)
	}()
	start := time.Now()
	for trip := range trips {
		ping <- trip
		if <-pong != trip {
			panic("a value was lost")
		}
	}
	nanos := nanosEach(start, trips)
	close(ping)
	<-pong
	return values{nanos}
}

func channelCrowd(pairs int) values {
	each := count(4_000_000) / pairs
	through := make(chan int, buffer)
	counts := make(chan int, pairs)
	var senders sync.WaitGroup
	start := time.Now()
	senders.Add(pairs)
	for range pairs {
		go func() {
			for n := range each {
				through <- n
			}
			senders.Done()
		}()
		go func() {
			received := 0
			for range through {
				received++
			}
			counts <- received
		}()
	}
	senders.Wait()
	close(through)
	received := 0
	for range pairs {
		received += <-counts
	}
	if received != pairs*each {
		panic("values were lost")
	}
	return values{nanosEach(start, pairs*each)}
}

// Channels, each with a goroutine that sends so many values.
func fed(n, each int) []chan int {
	from := make([]chan int, n)
	for i := range from {
		from[i] = make(chan int, buffer)
	}
	for _, to := range from {
		go func() {
			for n := range each {
				to <- n
			}
		}()
	}
	return from
}

func selectOf2() values {
	each := count(1_000_000) / 2
	start := time.Now()
	from := fed(2, each)
	for range 2 * each {
		select {
		case <-from[0]:
		case <-from[1]:
		}
	}
	return values{nanosEach(start, 2*each)}
}

func selectOf8() values {
	each := count(1_000_000) / 8
	start := time.Now()
	from := fed(8, each)
	for range 8 * each {
		select {
		case <-from[0]:
		case <-from[1]:
		case <-from[2]:
		case <-from[3]:
		case <-from[4]:
		case <-from[5]:
		case <-from[6]:
		case <-from[7]:
		}
	}
	return values{nanosEach(start, 8*each)}
}

func mutexAmong(n int) values {
	each := count(4_000_000) / n
	var lock sync.Mutex
	sum := 0
	start := time.Now()
	group.Add(n)
	for range n {
		go func() {
			for range each {
				lock.Lock()
				sum++
				lock.Unlock()
			}
			group.Done()
		}()
	}
	group.Wait()
	if sum != n*each {
		panic("an addition was lost")
	}
	return values{nanosEach(start, n*each)}
}

var read [8]struct {
	value int
	_     [120]byte // a cache line and its neighbour for each
}

func readMostly() values {
	each := count(4_000_000) / len(read)
	var lock sync.RWMutex
	sum := 0
	start := time.Now()
	group.Add(len(read))
	for i := range read {
		go func() {
			for n := range each {
				if (n+1)%100 == 0 {
					lock.Lock()
					sum++
					lock.Unlock()
				} else {
					lock.RLock()
					read[i].value = sum
					lock.RUnlock()
				}
			}
			group.Done()
		}()
	}
	group.Wait()
	return values{nanosEach(start, len(read)*each)}
}
