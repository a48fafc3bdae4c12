package nshost

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// A connection to the init starts one process. It carries a request, with the
// three standard files as ancillary data of its length; then orders one way
// and events the other, each a JSON value.
type request struct {
	Args   []string
	Env    []string
	Dir    string
	UID    uint32
	Detach bool // outlive the connection
	TTY    bool // make standard input the controlling terminal
}

type order struct{ Signal int }

type event struct {
	Error  string `json:",omitempty"`
	PID    int    `json:",omitempty"` // inside the host
	Exited bool   `json:",omitempty"`
	Code   int    `json:",omitempty"`
	Signal int    `json:",omitempty"`
}

const maxRequest = 1 << 20

func sendRequest(c *net.UnixConn, r request, files []*os.File) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var fds []int
	for _, f := range files {
		fds = append(fds, int(f.Fd()))
	}
	header := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	if _, _, err := c.WriteMsgUnix(header, unix.UnixRights(fds...), nil); err != nil {
		return err
	}
	_, err = c.Write(body)
	return err
}

func receiveRequest(c *net.UnixConn) (r request, files []*os.File, err error) {
	header, oob := make([]byte, 4), make([]byte, unix.CmsgSpace(3*4))
	n, oobn, _, _, err := c.ReadMsgUnix(header, oob)
	if err != nil {
		return r, nil, err
	}
	if files, err = receivedFiles(oob[:oobn]); err != nil {
		return r, nil, err
	}
	size := binary.BigEndian.Uint32(header)
	if n != len(header) || size > maxRequest {
		return r, files, errors.New("malformed request")
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return r, files, err
	}
	return r, files, json.Unmarshal(body, &r)
}

func receivedFiles(oob []byte) ([]*os.File, error) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	if len(files) != 3 {
		return nil, fmt.Errorf("%d files instead of 3 came with the request", len(files))
	}
	return files, nil
}
