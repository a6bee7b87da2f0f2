// Writes a small execution trace to the file named first: sleeps, channels, a mutex, a system call that blocks, the
// network, user tasks, regions and a log.
package main

import (
	"context"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/trace"
	"sync"
	"syscall"
	"time"
)

func busy(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

func sleeper(done *sync.WaitGroup) {
	defer done.Done()
	for range 5 {
		time.Sleep(2 * time.Millisecond)
	}
}

func producer(out chan<- int, done *sync.WaitGroup) {
	defer done.Done()
	for i := range 40 {
		out <- i
	}
	close(out)
}

func consumer(in <-chan int, done *sync.WaitGroup) {
	defer done.Done()
	for range in {
		busy(20 * time.Microsecond)
	}
}

func locker(m *sync.Mutex, done *sync.WaitGroup) {
	defer done.Done()
	for range 5 {
		m.Lock()
		busy(300 * time.Microsecond)
		m.Unlock()
		runtime.Gosched()
	}
}

func blocker(done *sync.WaitGroup) {
	defer done.Done()
	for range 3 {
		wait := syscall.NsecToTimespec(3e6)
		syscall.Nanosleep(&wait, nil)
	}
}

func serve(listener net.Listener, done *sync.WaitGroup) {
	defer done.Done()
	peer, err := listener.Accept()
	if err != nil {
		panic(err)
	}
	defer peer.Close()
	io.Copy(peer, peer)
}

func ask(address string, done *sync.WaitGroup) {
	defer done.Done()
	peer, err := net.Dial("tcp", address)
	if err != nil {
		panic(err)
	}
	defer peer.Close()
	buffer := make([]byte, 8)
	for range 5 {
		time.Sleep(time.Millisecond)
		peer.Write(buffer)
		io.ReadFull(peer, buffer)
	}
}

func request(parent context.Context, done *sync.WaitGroup) {
	defer done.Done()
	ctx, task := trace.NewTask(parent, "request")
	defer task.End()
	trace.Log(ctx, "phase", "begun")
	trace.WithRegion(ctx, "think", func() { busy(500 * time.Microsecond) })
	trace.WithRegion(ctx, "wait", func() {
		time.Sleep(time.Millisecond)
		trace.WithRegion(ctx, "inner", func() { busy(100 * time.Microsecond) })
	})
}

func main() {
	file, err := os.Create(os.Args[1])
	if err != nil {
		panic(err)
	}
	runtime.GOMAXPROCS(2)
	if err := trace.Start(file); err != nil {
		panic(err)
	}
	long := len(os.Args) > 2
	for {
		round()
		if !long {
			break
		}
		if time.Since(begun) > 2500*time.Millisecond {
			break
		}
	}
	trace.Stop()
	file.Close()
}

var begun = time.Now()

// Enough of it lets the collector run.
var garbage []byte

func round() {
	var done sync.WaitGroup
	done.Add(11)
	var lock sync.Mutex
	numbers := make(chan int)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go sleeper(&done)
	go producer(numbers, &done)
	go consumer(numbers, &done)
	for range 3 {
		go locker(&lock, &done)
	}
	go blocker(&done)
	go serve(listener, &done)
	go ask(listener.Addr().String(), &done)
	for range 2 {
		go request(context.Background(), &done)
	}
	for range 6 {
		garbage = make([]byte, 1<<20)
	}
	done.Wait()
	listener.Close()
}
