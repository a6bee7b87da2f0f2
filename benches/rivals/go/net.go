package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// Never returns. Go sets TCP_NODELAY by itself.
func serve(bufferBytes int) {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	fmt.Println("listening", listener.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := listener.AcceptTCP()
		check(err)
		go echo(conn, bufferBytes)
	}
}

func echo(conn *net.TCPConn, bufferBytes int) {
	defer conn.Close()
	buffer := make([]byte, bufferBytes)
	for {
		n, err := conn.Read(buffer)
		if err != nil {
			return
		}
		if _, err = conn.Write(buffer[:n]); err != nil {
			return
		}
	}
}

const away = 10 * time.Second

// Two ends of a connection.
func pair() (*net.TCPConn, *net.TCPConn) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	check(err)
	defer listener.Close()
	peer, err := net.DialTCP("tcp4", nil, listener.Addr().(*net.TCPAddr))
	check(err)
	conn, err := listener.AcceptTCP()
	check(err)
	return conn, peer
}

func resetAll(conn *net.TCPConn) values {
	n := count(1_000_000)
	start := time.Now()
	for range n {
		_ = conn.SetReadDeadline(time.Now().Add(away))
	}
	return values{nanosEach(start, n)}
}

func resetDeadline() values {
	conn, peer := pair()
	defer conn.Close()
	defer peer.Close()
	return resetAll(conn)
}

func resetDeadlineWaited() values {
	conn, peer := pair()
	defer conn.Close()
	defer peer.Close()
	check(conn.SetReadDeadline(time.Now().Add(away)))
	done := make(chan error)
	go func() {
		_, err := conn.Read(make([]byte, 1))
		done <- err
	}()
	time.Sleep(5 * time.Millisecond)
	result := resetAll(conn)
	_, err := peer.Write([]byte("x"))
	check(err)
	check(<-done)
	return result
}
