# frozen_string_literal: true

require "sidekiq_bridge/sidecar/stream/frame"
require "sidekiq_bridge/sidecar/stream/seal"

module SidekiqBridge
  module Sidecar
    # Turns the bytes of a stream into frames, however they were cut on their way.
    class FrameParser
      # A line that is not understood: nobody knows where the next one begins.
      class Malformed < StandardError; end

      LINE_BYTES = 4096
      JOB = %r{\AE \d{1,19} \d{1,15} [^\s/]{1,255} \d{1,20} \d{1,19} \d{1,9} \S+(?: traceparent=\S+)?\z}
      PROBE = /\AP \d{1,19} 0\z/

      # `seal` checks the code of each frame, if there is one.
      def initialize(max_body:, seal: nil)
        @max_body = max_body
        @seal = seal
        @buffer = +"".b
        @chunk = +"".b
        @position = 0
        @frame = nil    # the one whose body is still to come
        @missing = 0    # bytes of that body
      end

      # Takes what `socket` has, and waits if it has nothing; raises EOFError when there will be no more.
      def read_from(socket)
        return read_anew(socket) if @position == @buffer.bytesize
        socket.read_into(@chunk)
        forget_what_was_read
        @buffer << @chunk
      end

      # Yields the frames that are complete.
      def each_frame
        while (frame = next_frame)
          yield frame
        end
      end

      private

      # Nothing is left, so that nothing needs to be moved.
      def read_anew(socket)
        @position = @buffer.bytesize # if it ends here, there is still nothing left
        socket.read_into(@buffer)
        @position = 0
      end

      # Only when there is something to forget: a large body that comes in small pieces would be copied for each.
      def forget_what_was_read
        return if @position.zero?
        @buffer = @buffer.byteslice(@position, @buffer.bytesize)
        @position = 0
      end

      def next_frame
        @frame ||= next_head
        return unless @frame && (@frame.too_large? ? discarded? : body_taken?)
        raise Malformed, "a frame with a wrong code" unless @seal.nil? || @seal.fits?(@tag)
        @frame.tap { @frame = nil }
      end

      def next_head
        finish = @buffer.index("\n", @position)
        return check_length(@buffer.bytesize - @position) unless finish
        check_length(finish - @position)
        line = @buffer.byteslice(@position, finish - @position)
        @position = finish + 1
        head(@seal ? unsealed(line) : line)
      end

      # The line without its code, which is compared when the body is there.
      def unsealed(line)
        @tag, bare = line.byteslice(0, Seal::TAG_LENGTH), line.byteslice((Seal::TAG_LENGTH + 1)..)
        raise Malformed, "a frame without a code" unless bare && line.getbyte(Seal::TAG_LENGTH) == 32
        @seal.start(bare)
        bare
      end

      def check_length(bytes)
        raise Malformed, "a line of more than #{LINE_BYTES} bytes" if bytes > LINE_BYTES
      end

      def head(line)
        line.force_encoding(Encoding::UTF_8)
        line.scrub! unless line.valid_encoding?
        raise Malformed, "a line that is no frame's" unless JOB.match?(line) || PROBE.match?(line)
        _, id, bytes, identity, token, claimed_at_ms, recovered, queue, trace = line.split(" ")
        @missing = bytes.to_i
        return Frame.new(id) unless identity
        Frame.new(id, "#{identity}/#{token}", claimed_at_ms.to_i, recovered.to_i, queue, (@max_body if @missing > @max_body), trace)
      end

      def body_taken?
        return false if @buffer.bytesize - @position < @missing
        body = @buffer.byteslice(@position, @missing)
        @seal&.update(body)
        @frame.body = body
        @position += @missing
        true
      end

      def discarded?
        here = [@buffer.bytesize - @position, @missing].min
        @seal&.update(@buffer.byteslice(@position, here))
        @position += here
        @missing -= here
        @missing.zero?
      end
    end
  end
end
